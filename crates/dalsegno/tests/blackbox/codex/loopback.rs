//! Nobody is called: daemon, Codex and model run where there is nothing but loopback, and no packet wanted to leave.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use dalsegno_testkit::parts;

use super::scene::{FRONT, Scene, WORK};

/// Set inside.
const INSIDE: &str = "DALSEGNO_TEST_NO_NETWORK";

#[test]
fn daemon_and_codex_contact_nothing_but_loopback() {
    let (Some(_), Some(bubblewrap)) = (parts::codex(), parts::bubblewrap()) else { return };
    let output = Command::new(bubblewrap.program)
        .args(["--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["codex::loopback::inside_a_network_of_its_own", "--exact", "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "another test starts it without a network"]
fn inside_a_network_of_its_own() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    let devices: Vec<&str> =
        devices.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert_eq!(devices, ["lo"], "this network has a way out");
    let Some(scene) =
        Scene::new(FRONT, &format!("issue: [{{answer: [{{run: \"{WORK}\"}}]}}, {{answer: [{{say: Done.}}]}}]"))
    else {
        return;
    };
    assert!(scene.project.once(&[]).wait().success());
    scene.handed_off();
    assert!(counted("Tcp", "ActiveOpens") > 0, "nobody asked the model");
    assert_eq!(wanted_out(), 0, "connections or packets had no route: somebody was to be called");
    // Names are asked for by UDP, maybe at a resolver on loopback.
    assert_eq!(counted("Udp", "OutDatagrams"), 0, "somebody asked for a name");

    // The figure would have seen it.
    let limit = Duration::from_secs(5);
    assert!(TcpStream::connect_timeout(&"192.0.2.1:443".parse().unwrap(), limit).is_err());
    assert!(UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "192.0.2.1:53").is_err());
    assert!(TcpStream::connect_timeout(&"[2001:db8::1]:443".parse().unwrap(), limit).is_err());
    assert!(wanted_out() >= 2, "this system does not count what has no route: {}", wanted_out());
}

/// Connections and packets that were to go where no route leads.
fn wanted_out() -> u64 {
    let six = fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    let six = six
        .lines()
        .find_map(|line| line.strip_prefix("Ip6OutNoRoutes"))
        .map_or(0, |value| value.trim().parse().unwrap());
    counted("Ip", "OutNoRoutes") + six
}

/// A counter of this network.
fn counted(protocol: &str, name: &str) -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").unwrap();
    let prefix = format!("{protocol}: ");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(|row| row.split_whitespace().collect())
        .collect();
    let figures: BTreeMap<&str, &str> = rows[0].iter().copied().zip(rows[1].iter().copied()).collect();
    figures[name].parse().unwrap()
}
