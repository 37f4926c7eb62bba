//! The notebooks, executed from top to bottom without a browser by the lines of their page.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::docs::{documented, typed};
use crate::support::{Prometheus, repository, tools_dir};
use crate::tuning::{history, office, trace};

/// Executes notebooks as a line of their page says, in the short form, and leaves them in `out`.
fn execute(line: &str, notebooks: &str, out: &Path) {
    let ran = typed(line)
        .env("ETCDGUARDIAN", env!("CARGO_BIN_EXE_etcdguardian"))
        .env("ETCDGUARDIAN_TOOLS", tools_dir())
        .env("ETCDGUARDIAN_SHORT", "1")
        .env("NOTEBOOKS", notebooks)
        .env("EXECUTED", out)
        .env("STEP", "15m")
        .env("NO_PROXY", "127.0.0.1")
        .env("IPYTHONDIR", out)
        .env("MPLCONFIGDIR", out)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("ETCDGUARDIAN_TRACES")
        .env_remove("PROMETHEUS")
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ran.status.success(), "{line}: {said:?}");
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The pictures in a cell; nothing in it went wrong.
fn pictures(cell: &Value, name: &str) -> usize {
    let outputs = cell["outputs"].as_array().unwrap();
    for output in outputs {
        assert_ne!(output["output_type"], "error", "{name}");
        assert_ne!(output["name"], "stderr", "{name}: {output}");
    }
    let drawn = outputs
        .iter()
        .filter(|output| output["data"]["image/png"].is_string());
    drawn.count()
}

/// What was executed is what is kept, and draws as much.
fn compare(kept: &Path, executed: &Path) {
    let name = kept.display().to_string();
    let (kept, executed) = (read(kept), read(executed));
    let [old, new] = [&kept, &executed].map(|notebook| notebook["cells"].as_array().unwrap());
    assert_eq!(old.len(), new.len(), "{name}");
    let mut drawn = [0, 0];
    for (old, new) in old.iter().zip(new) {
        assert_eq!(old["source"], new["source"], "{name}");
        if old["cell_type"] != "code" {
            continue;
        }
        let executed = old["execution_count"].is_i64();
        assert!(executed, "{name}: kept without outputs: `make notebooks`");
        drawn[0] += pictures(old, &name);
        drawn[1] += pictures(new, &name);
    }
    assert!(drawn[0] >= 1 && drawn[0] == drawn[1], "{name}: {drawn:?}");
}

/// The notebooks in a folder, by name.
fn notebooks(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = files
        .filter(|file| file.extension().is_some_and(|end| end == "ipynb"))
        .collect();
    found.sort();
    found
}

#[test]
fn the_notebooks_run_from_top_to_bottom_on_somebodys_traces() {
    let (own, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let files = [
        trace(own.path(), "one.csv", 9, office),
        trace(own.path(), "two.csv", 9, |cell| 3.0 + office(cell + 20)),
    ];
    let before = files.each_ref().map(|file| std::fs::read(file).unwrap());
    let line = documented("notebooks/README.md", "make notebooks ETCDGUARDIAN_TRACES=");
    let line = line.replace("/path/to/folder", &own.path().display().to_string());
    execute(&line, "", out.path());
    let kept = notebooks(&repository("notebooks"));
    assert_eq!(kept.len(), 4);
    for kept in kept {
        compare(&kept, &out.path().join(kept.file_name().unwrap()));
    }
    let after = files.each_ref().map(|file| std::fs::read(file).unwrap());
    assert!(before == after, "somebody's traces are theirs");
}

#[test]
fn a_cluster_is_tuned_from_its_prometheus() {
    let out = TempDir::new().unwrap();
    let prometheus = Prometheus::start(&history(), &[]);
    let line = documented("notebooks/README.md", "make notebooks PROMETHEUS=");
    let line = line
        .replace("http://127.0.0.1:9090", &prometheus.url)
        .replace("SINCE=56d", "SINCE=12d");
    let name = "notebooks/04-your-cluster.ipynb";
    execute(&line, name, out.path());
    let executed = notebooks(out.path());
    assert_eq!(executed.len(), 1);
    compare(&repository(name), &executed[0]);
}
