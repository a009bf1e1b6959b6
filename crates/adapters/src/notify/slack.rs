//! A message for an incoming webhook of Slack: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.

use dalsegno_core::{Notice, Topic};
use dalsegno_engine::Notification;
use serde_json::{Value, json};

/// Notices that are told one by one; of the others there is a count.
const TOLD: usize = 20;

pub(super) fn body(message: &Notification) -> Value {
    let mut lines: Vec<String> = message.notices.iter().take(TOLD).map(line).collect();
    let more = message.notices.len().saturating_sub(TOLD) as u64 + message.missed;
    if more > 0 {
        lines.push(format!("_and {more} more; `dalsegno status` has all_"));
    }
    // Without links to unfurl: a title must not fetch anything.
    json!({"text": lines.join("\n"), "unfurl_links": false, "unfurl_media": false})
}

fn line(notice: &Notice) -> String {
    let what = match notice.topic {
        Topic::Question => ":question: asks",
        Topic::Approval => ":raised_hand: wants an approval",
        Topic::Parked => ":double_vertical_bar: is parked",
        Topic::Budget => ":moneybag: reached a limit",
        Topic::Done => ":white_check_mark: is done",
        Topic::Failed => ":x: failed",
    };
    let name = escaped(&notice.identifier);
    let url = notice.url.as_deref().filter(|url| url.starts_with("https://") && !url.contains(['|', '<', '>', ' ']));
    let name = url.map_or_else(|| name.clone(), |url| format!("<{}|{name}>", url.replace('&', "&amp;")));
    format!("*{name}* {what} — {}: {}", plain(&notice.title), plain(&notice.text))
}

/// Foreign text on one line that pings nobody and formats nothing.
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let tame = line.chars().map(|letter| if matches!(letter, '*' | '_' | '~' | '`') { ' ' } else { letter });
    escaped(&tame.collect::<String>())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use dalsegno_core::Timestamp;

    use super::*;

    fn notice(number: u64) -> Notice {
        Notice {
            number,
            topic: Topic::Question,
            issue: "i1".into(),
            identifier: "DS-1".to_owned(),
            title: "Ping <!channel> & *all*".to_owned(),
            text: "may I\nrun <@U1>?".to_owned(),
            url: Some("https://forge.example/pull/1".to_owned()),
            at: Timestamp(0),
        }
    }

    #[test]
    fn foreign_text_pings_nobody() {
        let message = Notification { id: "j-n1".to_owned(), notices: vec![notice(1)], missed: 0 };
        assert_eq!(
            body(&message)["text"],
            "*<https://forge.example/pull/1|DS-1>* :question: asks — Ping &lt;!channel&gt; &amp;  all : may I run &lt;@U1&gt;?"
        );
    }

    #[test]
    fn many_are_counted() {
        let message = Notification { id: "j-n1".to_owned(), notices: (1..=25).map(notice).collect(), missed: 7 };
        let text = body(&message)["text"].as_str().map(str::to_owned).unwrap_or_default();
        assert_eq!(text.lines().count(), TOLD + 1);
        assert!(text.ends_with("_and 12 more; `dalsegno status` has all_"), "{text}");
    }
}
