//! Somebody else's systems, kept in a file: they outlive this program, and remember everything that was really done to them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The systems: one line for each thing that was done.
pub(crate) struct Remote {
    path: PathBuf,
}

impl Remote {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join("remote.jsonl") }
    }

    /// Makes the tag, unless it is there.
    pub(crate) fn tag(&self, args: &Value) -> io::Result<Value> {
        if !self.has_tag(args)? {
            self.append(&json!({"did": "tag", "tag": args["tag"]}))?;
        }
        Ok(args.clone())
    }

    /// Deletes the tag, if it is there.
    pub(crate) fn untag(&self, args: &Value) -> io::Result<Value> {
        if self.has_tag(args)? {
            self.append(&json!({"did": "untag", "tag": args["tag"]}))?;
        }
        Ok(Value::Null)
    }

    fn has_tag(&self, args: &Value) -> io::Result<bool> {
        let of_tag = |line: &Value| line["tag"] == args["tag"];
        let last = self.read()?.into_iter().rfind(of_tag);
        Ok(last.is_some_and(|line| line["did"] == "tag"))
    }

    /// Makes a draft, each time another one, which says what it was made for.
    pub(crate) fn upload(&self, key: &str) -> io::Result<Value> {
        let draft = self.read()?.len();
        self.append(&json!({"did": "upload", "key": key, "draft": draft}))?;
        Ok(json!({"draft": draft}))
    }

    /// The draft that was made for this, if there is one.
    pub(crate) fn find_draft(&self, key: &str) -> io::Result<Option<Value>> {
        let found = self.read()?.into_iter().find(|line| line["did"] == "upload" && line["key"] == key);
        Ok(found.map(|line| json!({"draft": line["draft"]})))
    }

    /// Withdraws a draft, if it is there.
    pub(crate) fn withdraw(&self, draft: &Value) -> io::Result<Value> {
        self.once("withdraw", draft)
    }

    /// Publishes a draft, unless it is published.
    pub(crate) fn publish(&self, draft: &Value) -> io::Result<Value> {
        self.once("publish", draft)
    }

    /// Whether a draft is published.
    pub(crate) fn find_published(&self, draft: &Value) -> io::Result<Option<Value>> {
        let published = self.read()?.iter().any(|line| line["did"] == "publish" && line["draft"] == *draft);
        Ok(published.then_some(Value::Null))
    }

    fn once(&self, what: &str, draft: &Value) -> io::Result<Value> {
        if !self.read()?.iter().any(|line| line["did"] == what && line["draft"] == *draft) {
            self.append(&json!({"did": what, "draft": draft}))?;
        }
        Ok(Value::Null)
    }

    /// Posts, unless it knows the key.
    pub(crate) fn announce(&self, key: &str, args: &Value) -> io::Result<Value> {
        if !self.read()?.iter().any(|line| line["did"] == "announce" && line["key"] == key) {
            self.append(&json!({"did": "announce", "key": key, "text": args["text"]}))?;
        }
        Ok(Value::Null)
    }

    fn append(&self, line: &Value) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }

    fn read(&self) -> io::Result<Vec<Value>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        BufReader::new(file).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }
}
