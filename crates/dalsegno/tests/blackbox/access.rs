//! Who may do what, with the real daemon: tokens, login links, and binding elsewhere than on loopback.

use std::fs;

use super::http::{Answer, Api};
use super::project::Project;

const FRONT: &str = "polling: {interval_ms: 200}\nagent: {kind: scripted, script: agent.yaml}\n";
const AGENT: &str = "default: [[{say: hello}]]\n";

fn with(api: &Api, token: &str, method: &str, target: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    api.raw(method, target, &[("host", &api.address), ("authorization", &bearer)], "")
}

fn new_token(project: &Project, name: &str, role: &str) -> String {
    project.json(&["token", "new", name, "--role", role, "--json"])["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_is_made_before_the_start_and_works_in_a_running_daemon_until_it_is_revoked() {
    let project = Project::new(FRONT, AGENT);
    let early = new_token(&project, "early", "viewer");
    let mut daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    let late = new_token(&project, "late", "operator");
    let refresh = |token: &str| with(&api, token, "POST", "/api/v1/refresh");
    let (viewer, operator) = (refresh(&early), refresh(&late));
    assert_eq!((viewer.status, viewer.code()), (403, "role_too_low"));
    assert_eq!(operator.status, 202, "{}", operator.body);

    let listed = project.json(&["token", "list", "--json"]);
    assert_eq!((&listed["tokens"][0]["name"], &listed["tokens"][1]["role"]), (&"early".into(), &"operator".into()));
    let taken = project.output(&["token", "new", "Late", "--role", "viewer"]);
    assert!(String::from_utf8_lossy(&taken.stderr).contains("error[token_name_taken]"));

    assert!(project.output(&["token", "revoke", "late"]).status.success());
    let revoked = refresh(&late);
    assert_eq!((revoked.status, revoked.code()), (401, "token_invalid"), "at once");
    let again = project.output(&["token", "revoke", "late"]);
    assert_eq!(again.status.code(), Some(3));
    daemon.stop();
    assert_kept_nowhere(&project, &[&early, &late]);
}

/// Neither tokens nor their digits alone are in any file of the state directory.
fn assert_kept_nowhere(project: &Project, secrets: &[&str]) {
    let mut folders = vec![project.state_dir()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap_or_default();
            files += 1;
            for secret in secrets {
                let digits = secret.rsplit(['_', '=']).next().unwrap().as_bytes();
                assert!(!bytes.windows(digits.len()).any(|part| part == digits), "in {}", path.display());
            }
        }
    }
    assert!(files > 3, "journal, log and tokens were looked at");
}

#[test]
fn a_login_link_opens_one_session_that_ends_with_the_daemon() {
    let project = Project::new(FRONT, AGENT);
    let mut daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    let link = project.output(&["open", "--print"]);
    let link = String::from_utf8(link.stdout).unwrap().trim().to_owned();
    let path = link.strip_prefix(&format!("http://{}", api.address)).unwrap();
    let entered = api.open("GET", path);
    assert_eq!(entered.status, 200, "{}", entered.head);
    let cookie = entered.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let used = api.open("GET", path);
    assert_eq!((used.status, used.code()), (401, "login_link_invalid"));

    let origin = format!("http://{}", api.address);
    let write = |origin: &str| {
        let headers = [("host", api.address.as_str()), ("cookie", cookie), ("origin", origin)];
        api.raw("POST", "/api/v1/refresh", &headers, "")
    };
    assert_eq!(write(&origin).status, 202);
    let forged = write("http://localhost:1");
    assert_eq!((forged.status, forged.code()), (403, "origin_refused"));

    daemon.stop();
    let port: u16 = api.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut daemon = project.daemon_at(port);
    let api = Api::of(&project, &daemon);
    let headers = [("host", api.address.as_str()), ("cookie", cookie), ("origin", origin.as_str())];
    let over = api.raw("POST", "/api/v1/refresh", &headers, "");
    assert_eq!((over.status, over.code()), (401, "token_required"));
    daemon.stop();
    assert_kept_nowhere(&project, &[path, cookie]);
}

#[test]
fn elsewhere_than_on_loopback_it_starts_with_a_token_alone_and_tells_strangers_nothing() {
    let front = format!("{FRONT}server: {{host: 0.0.0.0, hosts: [dash.example]}}\n");
    let project = Project::new(&front, AGENT);
    let refused = project.output(&["run", "--once", "--port", "0"]);
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("error[token_not_configured]") && words.contains("dalsegno token new"), "{words}");

    let token = new_token(&project, "proxy", "viewer");
    let mut daemon = project.daemon();
    let api = Api::of(&project, &daemon);
    let stranger = api.open("GET", "/api/v1/state");
    assert_eq!((stranger.status, stranger.code()), (401, "token_required"));
    assert_eq!(api.open("GET", "/healthz").status, 200);
    let bearer = format!("Bearer {token}");
    for (host, status) in [("dash.example", 200), ("evil.example", 403)] {
        let answer = api.raw("GET", "/api/v1/state", &[("host", host), ("authorization", &bearer)], "");
        assert_eq!(answer.status, status, "{host}");
    }
    assert!(project.output(&["status"]).status.success(), "the command line has its own token");
    daemon.stop();
}
