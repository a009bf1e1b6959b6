//! Licence expressions: `MIT OR (Apache-2.0 WITH LLVM-exception AND BSD-3-Clause)`.

/// Deepest nesting of parentheses that is read.
const MAX_DEPTH: u32 = 32;

/// A licence expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// One licence, with its exception if it has one: `Apache-2.0 WITH LLVM-exception`.
    Licence(String),
    /// All of them hold.
    And(Vec<Self>),
    /// One of them may be chosen.
    Or(Vec<Self>),
}

impl Expression {
    /// Reads an expression. The old separator `/` of the registry means `OR`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut parser = Parser { words: &words, at: 0 };
        let expression = parser.or(0)?;
        match parser.peek() {
            None => Ok(expression),
            Some(word) => Err(format!("`{word}` is left over in {text:?}")),
        }
    }

    /// Whether the allowed licences are enough. An exception counts only where it is allowed by name.
    pub(crate) fn satisfied_by(&self, allowed: &[String]) -> bool {
        match self {
            Self::Licence(name) => allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)),
            Self::And(parts) => parts.iter().all(|part| part.satisfied_by(allowed)),
            Self::Or(parts) => parts.iter().any(|part| part.satisfied_by(allowed)),
        }
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self, depth: u32) -> Result<Expression, String> {
        let mut parts = vec![self.and(depth)?];
        while self.take("OR") {
            parts.push(self.and(depth)?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    fn and(&mut self, depth: u32) -> Result<Expression, String> {
        let mut parts = vec![self.primary(depth)?];
        while self.take("AND") {
            parts.push(self.primary(depth)?);
        }
        Ok(one_or(parts, Expression::And))
    }

    fn primary(&mut self, depth: u32) -> Result<Expression, String> {
        if self.take("(") {
            if depth >= MAX_DEPTH {
                return Err("nested too deeply".to_owned());
            }
            let inner = self.or(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err("a `)` is missing".to_owned()) };
        }
        let name = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Ok(Expression::Licence(format!("{name} WITH {exception}")));
        }
        Ok(Expression::Licence(name.to_owned()))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        match self.peek() {
            Some(word) if !is_operator(word) => {
                self.at += 1;
                Ok(word)
            }
            Some(word) => Err(format!("`{word}` where a licence is expected")),
            None => Err("it ends where a licence is expected".to_owned()),
        }
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

fn is_operator(word: &str) -> bool {
    ["(", ")", "OR", "AND", "WITH"].iter().any(|operator| operator.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(expression: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        Expression::parse(expression).is_ok_and(|expression| expression.satisfied_by(&allowed))
    }

    #[test]
    fn one_of_an_or_is_enough() {
        assert!(allows("MIT OR GPL-3.0-only", &["MIT"]));
        assert!(allows("GPL-3.0-only OR MIT", &["MIT"]));
        assert!(!allows("GPL-3.0-only OR AGPL-3.0-only", &["MIT"]));
    }

    #[test]
    fn an_and_needs_all() {
        assert!(allows("MIT AND BSD-3-Clause", &["MIT", "BSD-3-Clause"]));
        assert!(!allows("MIT AND GPL-3.0-only", &["MIT"]));
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(allows("MIT OR GPL-3.0-only AND Zlib", &["MIT"]));
        assert!(allows("GPL-3.0-only AND Zlib OR MIT", &["MIT"]));
        assert!(!allows("GPL-3.0-only AND Zlib OR ISC", &["Zlib"]));
    }

    #[test]
    fn parentheses_come_first() {
        assert!(!allows("(MIT OR Zlib) AND GPL-3.0-only", &["MIT", "Zlib"]));
        assert!(allows("(Apache-2.0 OR MIT) AND BSD-3-Clause", &["MIT", "BSD-3-Clause"]));
        assert!(allows("((MIT))", &["MIT"]));
    }

    #[test]
    fn an_exception_must_be_allowed_by_name() {
        assert!(!allows("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"]));
        assert!(allows("Apache-2.0 WITH LLVM-exception", &["Apache-2.0 WITH LLVM-exception"]));
        assert!(allows("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", &["MIT"]));
        assert!(!allows("GPL-2.0 WITH LLVM-exception", &["Apache-2.0 WITH LLVM-exception"]));
    }

    #[test]
    fn the_old_slash_means_or() {
        assert!(allows("MIT/Apache-2.0", &["Apache-2.0"]));
        assert!(allows("MIT / Apache-2.0", &["MIT"]));
    }

    #[test]
    fn names_compare_without_case_and_as_a_whole() {
        assert!(allows("mit", &["MIT"]));
        assert!(!allows("MIT-0", &["MIT"]));
        assert!(!allows("Apache-2.0+", &["Apache-2.0"]));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in ["", "OR", "MIT OR", "MIT AND OR Zlib", "(MIT", "MIT)", "MIT Zlib", "MIT WITH", "WITH MIT", "()"] {
            assert!(Expression::parse(bad).is_err(), "{bad}");
        }
        let deep = format!("{}MIT{}", "(".repeat(1000), ")".repeat(1000));
        assert!(Expression::parse(&deep).is_err());
    }
}
