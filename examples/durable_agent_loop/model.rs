//! The scripted model: deterministic, in this process, and yet something that costs. Each question is noted in a file, as a
//! provider would note it on the bill.

use std::path::PathBuf;

use dalsegno_durable::EffectError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::remote;

/// One message of the conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    /// `user`, `model`, or the tool that answered.
    pub(crate) from: String,
    /// What it said.
    pub(crate) said: Value,
}

/// What the model wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// These tools are to be run.
    Tools(Vec<ToolCall>),
    /// It is done.
    Done(String),
}

/// A tool that is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ToolCall {
    /// Its name.
    pub(crate) tool: String,
    /// What it is given.
    pub(crate) arguments: Value,
}

/// The model, with its bill.
pub(crate) struct Model {
    bill: PathBuf,
}

impl Model {
    pub(crate) fn new(bill: PathBuf) -> Self {
        Self { bill }
    }

    /// Asks it. What it answers depends on the conversation alone.
    pub(crate) fn ask(&self, conversation: &[Message]) -> Result<Answer, EffectError> {
        remote::append(&self.bill, &json!({ "messages": conversation.len() }))?;
        let last = |from: &str| conversation.iter().rev().find(|message| message.from == from).map(|found| &found.said);
        let sunny = |city: &str| {
            let report = |message: &&Message| message.from == "weather" && message.said["city"] == city;
            conversation.iter().find(report).is_some_and(|message| message.said["sky"] == "sunny")
        };
        Ok(if let Some(mail) = last("mail") {
            Answer::Done(format!("You are going to Bergen; {} has been told.", mail["to"].as_str().unwrap_or("nobody")))
        } else if let Some(booking) = last("book") {
            let text = format!("We take the train, booking {}.", booking["number"]);
            Answer::Tools(vec![tool("mail", json!({ "to": "ada@example.org", "text": text }))])
        } else if sunny("Bergen") {
            Answer::Tools(vec![tool("book", json!({ "train_to": "Bergen" }))])
        } else {
            let ask = |city: &str| tool("weather", json!({ "city": city }));
            Answer::Tools(vec![ask("Oslo"), ask("Bergen")])
        })
    }
}

fn tool(tool: &str, arguments: Value) -> ToolCall {
    ToolCall { tool: tool.to_owned(), arguments }
}
