//! What the URL of a remote says: which repository, on which host.

/// A repository on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hosted {
    /// Name of the host; with a port, if that is one for HTTPS.
    pub(super) host: String,
    /// `owner/name`, or nothing when the path is not of that form.
    pub(super) repository: Option<String>,
}

/// Takes `https://`, `ssh://` and `git://` URLs apart, and what `scp` takes; `None` for paths and other places without a host.
pub(super) fn hosted(url: &str) -> Option<Hosted> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.to_lowercase(), rest),
        None => {
            let (host, path) = url.split_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'))?;
            return Some(Hosted { host: bare(host, false), repository: repository(path) });
        }
    };
    let (authority, path) = rest.split_once('/')?;
    let with_port = match scheme.as_str() {
        "https" | "http" => true,
        "ssh" | "git" | "git+ssh" | "ssh+git" => false,
        _ => return None,
    };
    let host = bare(authority, with_port);
    (!host.is_empty()).then(|| Hosted { host, repository: repository(path) })
}

/// The host without user and password. A port of ssh is none of the API's.
fn bare(authority: &str, with_port: bool) -> String {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((host, port)) if !with_port && port.chars().all(|digit| digit.is_ascii_digit()) => host,
        Some(_) | None => host,
    };
    match host.to_lowercase().as_str() {
        // The names under which GitHub is reached where a firewall lets only some ports pass.
        "www.github.com" | "ssh.github.com" => "github.com".to_owned(),
        other => other.to_owned(),
    }
}

/// `owner/name` of a path.
fn repository(path: &str) -> Option<String> {
    let path = path.trim_matches('/');
    checked(path.strip_suffix(".git").unwrap_or(path))
}

/// The text, if it is `owner/name`.
pub(super) fn checked(text: &str) -> Option<String> {
    let (owner, name) = text.split_once('/')?;
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..") && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    (plain(owner) && plain(name)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_form_of_a_remote_is_understood() {
        for (url, host) in [
            ("https://github.com/acme/widgets.git", "github.com"),
            ("https://github.com/acme/widgets/", "github.com"),
            ("https://me:pw@github.com/acme/widgets", "github.com"),
            ("https://git.example.org:8443/acme/widgets.git", "git.example.org:8443"),
            ("ssh://git@GitHub.com/acme/widgets.git", "github.com"),
            ("ssh://git@ssh.github.com:443/acme/widgets.git", "github.com"),
            ("git@github.com:acme/widgets.git", "github.com"),
            ("git@git.example.org:/acme/widgets", "git.example.org"),
            ("git://git.example.org/acme/widgets.git", "git.example.org"),
        ] {
            let found = hosted(url).unwrap();
            assert_eq!((found.host.as_str(), found.repository.as_deref()), (host, Some("acme/widgets")), "{url}");
        }
    }

    #[test]
    fn what_names_no_repository_gives_none() {
        for url in
            ["/srv/acme/widgets.git", "file:///srv/acme/widgets.git", "../acme/widgets", "https://github.com", ""]
        {
            assert_eq!(hosted(url), None, "{url}");
        }
        for url in ["https://github.com/widgets", "git@github.com:a/b/c.git", "https://github.com/../x", "h:a/b c"] {
            assert_eq!(hosted(url).unwrap().repository, None, "{url}");
        }
    }
}
