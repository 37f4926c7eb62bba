//! Peer URLs in the form that etcd hashes: scheme in lower case, host and port as written.

/// A peer URL as etcd writes it, or what is wrong with it.
///
/// # Errors
/// In words, when etcd would refuse it.
pub fn peer_url(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let (scheme, rest) = text
        .split_once("://")
        .ok_or("it has no scheme: write http://HOST:PORT or https://HOST:PORT")?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https" | "unix" | "unixs") {
        return Err("its scheme must be http, https, unix or unixs");
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@', ' ']) {
        return Err("it must be only a scheme, a host and a port");
    }
    let (host, port) = authority
        .rsplit_once(':')
        .ok_or("it has no port: write http://HOST:PORT")?;
    if scheme.starts_with("http") && port.parse::<u16>().is_err() {
        return Err("its port is not a number up to 65535");
    }
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !bracketed) {
        return Err("its host is missing, or is an IPv6 address without brackets");
    }
    Ok(format!("{scheme}://{authority}"))
}
