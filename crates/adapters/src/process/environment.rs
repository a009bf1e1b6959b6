//! Which variables of the daemon's environment are credentials, and whose.
//!
//! | child | does not get |
//! |---|---|
//! | every one | the policy's own secrets, and what opens a tracker, a forge or a channel of messages ([`is_outward`]) |
//! | checks, which run code that an agent wrote | also keys of models, of clouds and of registries, and what leads git to credentials ([`is_credential`]) |
//! | git, on what an agent can write | anything but what a program needs to start (`workspace/git.rs`) |
//! | git, with the remote of the policy | the policy's own secrets alone: helpers take the user's token from here |
//!
//! Agents and hooks keep keys of models, clouds and registries: models are reached by them.

use std::ffi::OsString;

/// Names that begin so belong to a tracker, a forge or a channel whatever follows.
const OUTWARD: &[&str] = &["JIRA_", "ATLASSIAN_", "SLACK_"];
/// Names that begin so do if the rest looks like a secret: `GITHUB_TOKEN`, and not `GITHUB_WORKSPACE`.
const OUTWARD_SECRETS: &[&str] = &[
    "GH_",
    "GITHUB_",
    "GITLAB_",
    "GL_",
    "GITEA_",
    "FORGEJO_",
    "CODEBERG_",
    "BITBUCKET_",
    "LINEAR_",
    "CI_JOB_",
    "CI_DEPLOY_",
];
/// Of clouds, and of what guards other secrets.
const CLOUDS: &[&str] =
    &["AWS_", "AZURE_", "ARM_", "GOOGLE_", "GCP_", "CLOUDSDK_", "VAULT_", "TWINE_", "NPM_CONFIG_//"];
/// By these a program comes by credentials, git's above all.
const WAYS: &[&str] = &[
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "SSH_ASKPASS",
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_CONFIG_COUNT",
    "DOCKER_AUTH_CONFIG",
    "KUBECONFIG",
    "NETRC",
];
/// Words of a name that make it one of a secret.
const SECRET_WORDS: &[&str] =
    &["TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY", "PAT"];
/// Ends of a name that do.
const SECRET_ENDS: &[&str] = &["_KEY", "_KEY_ID", "_AUTH", "AUTHTOKEN"];

/// Whether a variable opens a tracker, a forge or a channel of messages that this program knows. Writes there are the
/// daemon's; no child needs them.
pub(super) fn is_outward(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    begins(OUTWARD)
        || (begins(OUTWARD_SECRETS) && looks_secret(&name))
        || name.ends_with("_WEBHOOK")
        || name.ends_with("_WEBHOOK_URL")
}

/// Whether a variable is a credential of whatever kind, as far as its name tells.
pub(super) fn is_credential(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    is_outward(name)
        || WAYS.contains(&upper.as_str())
        || CLOUDS.iter().any(|start| upper.starts_with(start))
        || looks_secret(&upper)
}

fn looks_secret(name: &str) -> bool {
    SECRET_ENDS.iter().any(|end| name.ends_with(end)) || name.split(['_', '-']).any(|word| SECRET_WORDS.contains(&word))
}

/// Names in the daemon's environment of which `what` holds. One that is no text is no name of ours.
pub(super) fn names(what: impl Fn(&str) -> bool) -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| OsString::into_string(name).ok()).filter(|name| what(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_from_what_programs_need() {
        for name in [
            "GH_TOKEN",
            "GITHUB_TOKEN",
            "GITHUB_ENTERPRISE_TOKEN",
            "GITLAB_TOKEN",
            "CI_JOB_TOKEN",
            "LINEAR_API_KEY",
            "JIRA_API_TOKEN",
            "JIRA_EMAIL",
            "FORGEJO_TOKEN",
            "GITEA_TOKEN",
            "SLACK_WEBHOOK",
            "SLACK_WEBHOOK_URL",
            "DISCORD_WEBHOOK_URL",
            "github_token",
        ] {
            assert!(is_outward(name) && is_credential(name), "{name}");
        }
        for name in [
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "AWS_ACCESS_KEY_ID",
            "AWS_PROFILE",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_REGISTRIES_OURS_TOKEN",
            "NPM_TOKEN",
            "NODE_AUTH_TOKEN",
            "PGPASSWORD_SECRET",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SSH_AUTH_SOCK",
            "npm_config_//registry.example/:_authToken",
        ] {
            assert!(!is_outward(name) && is_credential(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "LANG",
            "GITHUB_WORKSPACE",
            "GITHUB_ACTIONS",
            "CARGO_HOME",
            "TOKENIZERS_PARALLELISM",
            "SSL_CERT_FILE",
            "KEYBOARD",
            "RUSTUP_TOOLCHAIN",
            "HTTPS_PROXY",
            "AUTHOR",
        ] {
            assert!(!is_outward(name) && !is_credential(name), "{name}");
        }
    }
}
