//! Whether the process that wrote a lease is certainly gone, so that nobody need wait for what a `kill -9` left. Certain it is only
//! on the same boot of the same machine, in the same process namespace; of all others nothing is said.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// This process in words that no other has: boot, namespace, number, moment of its start. `None` where `/proc` does not say so.
pub(super) fn this_process() -> Option<String> {
    let id = std::process::id();
    Some(format!("{}/{id}/{}", surroundings()?, state_of(id)?.1))
}

/// Whether a process that named itself so has ended for certain.
pub(super) fn is_gone(named: &str) -> bool {
    let gone = || {
        let mut words = named.rsplitn(3, '/');
        let (started, id, around) = (words.next()?, words.next()?, words.next()?);
        if surroundings()? != around {
            return None;
        }
        let id: u32 = id.parse().ok()?;
        let pid = Pid::from_raw(i32::try_from(id).ok()?)?;
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return Some(true);
        }
        // One that has ended and that its parent has not looked at yet, or another one with the same number.
        let (letter, since) = state_of(id)?;
        Some(matches!(letter, 'Z' | 'X') || since != started)
    };
    gone().unwrap_or(false)
}

fn surroundings() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), space.display()))
}

/// The letter of its state, and when it started in ticks since the boot: fields 3 and 22 of `/proc/PID/stat` (proc(5)).
fn state_of(id: u32) -> Option<(char, String)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before it may hold anything, brackets too.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let letter = fields.next()?.chars().next()?;
    Some((letter, fields.nth(18)?.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_who_is_certainly_gone_is_gone() {
        let own = this_process().unwrap();
        assert!(!is_gone(&own));
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let (around, started) = (surroundings().unwrap(), state_of(child.id()).unwrap().1);
        let other = format!("{around}/{}/{started}", child.id());
        assert!(!is_gone(&other), "it lives");
        assert!(is_gone(&format!("{around}/{}/1", child.id())), "another");
        child.kill().unwrap();
        // Not waited for yet, or waited for: gone it is.
        while !is_gone(&other) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(is_gone(&other));
        for elsewhere in [
            "",
            "x/1/1",
            &format!("another-boot/pid:[1]/{}/1", child.id()),
        ] {
            assert!(!is_gone(elsewhere), "{elsewhere}");
        }
    }
}
