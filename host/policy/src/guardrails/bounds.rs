//! Limits on the size and depth of a guardrail, checked on its text before Cedar parses it.
//!
//! Cedar recurses into an expression, and a chain of `&&` or `||` is as deep for it as it is long. So everything that
//! makes an expression deep is counted here in one pass over the text, which needs only a few counters.
//!
//! Invariant: the tree of an accepted policy is not deeper than [`MAX_OPERATORS`] plus a few levels per bracket, so
//! [`with_stack`](crate::engine::with_stack) has the stack for it.

/// Maximum bytes of a file of guardrails.
pub(super) const MAX_FILE: usize = 256 << 10;
/// Maximum bytes of all files of guardrails together.
const MAX_FILES: usize = 512 << 10;
/// Maximum guardrails of a host, in all of its files.
const MAX_GUARDRAILS: usize = 500;
/// Maximum operators of all guardrails together: Cedar evaluates each once for every operation.
const MAX_ALL_OPERATORS: usize = 5000;
/// Maximum nesting of brackets.
const MAX_NESTING: usize = 100;
/// Maximum operators of a policy that make an expression deeper.
const MAX_OPERATORS: usize = 500;
/// Maximum chained attributes: `a.b.c`. Cedar turns each part of `a has b.c` into a condition.
const MAX_ATTRIBUTES: usize = 16;

/// Why a text is rejected.
#[derive(Debug)]
pub(super) struct LimitError {
    /// The offset of the first excess byte.
    pub(super) at: usize,
    pub(super) message: String,
}

/// The totals of all files so far.
#[derive(Debug, Default)]
pub(super) struct Total {
    bytes: usize,
    guardrails: usize,
    operators: usize,
}

impl Total {
    /// Checks another text and counts it. Returns the maximum depth of each of its complete policies.
    pub(super) fn add(&mut self, text: &str) -> Result<Vec<usize>, LimitError> {
        let policies = check(text)?;
        self.bytes += text.len();
        let too_much = |at, what: String| {
            Err(LimitError {
                at,
                message: format!(
                    "{what}, with those of the files before; write one guardrail for many: with `action in [...]`, with a set of \
                     names and `.contains(...)`, or with `like` and a `*` in the name"
                ),
            })
        };
        if self.bytes > MAX_FILES {
            let what = format!("there are more than {} KiB of guardrails", MAX_FILES >> 10);
            return too_much(0, what);
        }
        let mut depths = Vec::with_capacity(policies.len());
        for policy in policies {
            self.guardrails += 1;
            self.operators += policy.operators;
            if self.guardrails > MAX_GUARDRAILS {
                let what = format!("there are more than {MAX_GUARDRAILS} guardrails");
                return too_much(policy.end, what);
            }
            if self.operators > MAX_ALL_OPERATORS {
                let what = format!("the guardrails have more than {MAX_ALL_OPERATORS} operators");
                return too_much(policy.end, what);
            }
            depths.push(policy.deepest + policy.operators);
        }
        Ok(depths)
    }
}

/// Checks each policy of a text. Returns the counts of each complete policy.
fn check(text: &str) -> Result<Vec<Scan>, LimitError> {
    if text.len() > MAX_FILE {
        return Err(LimitError {
            at: MAX_FILE,
            message: format!(
                "the file has more than {} KiB; put the rest into another file",
                MAX_FILE >> 10
            ),
        });
    }
    let mut policies = Vec::new();
    let mut scan = Scan::default();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        let end = match (byte, next) {
            (b'/', Some(b'/')) => skip(bytes, at, |byte| byte != b'\n'),
            (b'"', _) => text_end(bytes, at),
            (b'&', Some(b'&')) | (b'|', Some(b'|')) => {
                scan.operator();
                at + 2
            }
            (b'!', Some(b'=')) => {
                scan.operator();
                at + 2
            }
            (b'+' | b'-' | b'*' | b'!', _) => {
                scan.operator();
                at + 1
            }
            (b'(' | b'[' | b'{', _) => {
                scan.nesting += 1;
                scan.deepest = scan.deepest.max(scan.nesting);
                scan.attributes = 0;
                at + 1
            }
            (b')' | b']' | b'}', _) => {
                scan.nesting = scan.nesting.saturating_sub(1);
                scan.attributes = 0;
                at + 1
            }
            (b'.', _) => {
                scan.attributes += 1;
                at + 1
            }
            // There is no semicolon inside of an expression.
            (b';', _) => {
                scan.end = at;
                policies.push(std::mem::take(&mut scan));
                at + 1
            }
            (first, _) if is_word(*first) => {
                let end = skip(bytes, at, is_word);
                scan.word(bytes.get(at..end).unwrap_or_default());
                end
            }
            (byte, _) => {
                if !byte.is_ascii_whitespace() {
                    scan.attributes = 0;
                }
                at + 1
            }
        };
        if let Some(what) = scan.excess() {
            let message = format!(
                "{what}; write it as several guardrails: one that forbids is enough, so each part of an `||` may be one of its own"
            );
            return Err(LimitError { at, message });
        }
        at = end;
    }
    Ok(policies)
}

/// The counts of the current policy.
#[derive(Debug, Default)]
struct Scan {
    nesting: usize,
    deepest: usize,
    operators: usize,
    attributes: usize,
    /// Its end.
    end: usize,
}

impl Scan {
    fn operator(&mut self) {
        self.operators += 1;
        self.attributes = 0;
    }

    fn word(&mut self, word: &[u8]) {
        match word {
            b"if" | b"when" | b"unless" => self.operator(),
            // Each of these has an expression of its own on its right.
            b"has" | b"like" | b"is" | b"in" | b"then" | b"else" => self.attributes = 0,
            _ => {}
        }
    }

    fn excess(&self) -> Option<String> {
        if self.nesting > MAX_NESTING {
            return Some(format!(
                "it has brackets in brackets, more than {MAX_NESTING} deep"
            ));
        }
        if self.operators > MAX_OPERATORS {
            return Some(format!(
                "it has more than {MAX_OPERATORS} of `&&`, `||`, `!`, `+`, `-`, `*`, `if`, `when` and `unless`"
            ));
        }
        (self.attributes > MAX_ATTRIBUTES).then(|| {
            format!("it has attributes of attributes, more than {MAX_ATTRIBUTES} in a row")
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn skip(bytes: &[u8], from: usize, is_part: fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let length = rest.iter().position(|byte| !is_part(*byte));
    from + length.unwrap_or(rest.len())
}

/// The end of a quoted text. Cedar parses nothing after an unterminated one.
fn text_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

/// The parts of a parsed policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) principal: &'a str,
    pub(crate) resource: &'a str,
    /// Everything after the scope, with the semicolon.
    pub(crate) conditions: &'a str,
}

/// Splits a policy that Cedar has parsed.
pub(crate) fn parts(policy: &str) -> Option<Parts<'_>> {
    let bytes = policy.as_bytes();
    let (mut at, mut depth, mut is_forbid) = (0, 0_usize, false);
    // The boundaries of the parts of the scope.
    let mut marks = Vec::new();
    while let Some(byte) = bytes.get(at) {
        let end = match (byte, bytes.get(at + 1)) {
            (b'/', Some(b'/')) => skip(bytes, at, |byte| byte != b'\n'),
            (b'"', _) => text_end(bytes, at),
            // An annotation may be named `forbid` too.
            (b'@', _) => skip(bytes, at + 1, is_word),
            (first, _) if is_word(*first) => {
                let end = skip(bytes, at, is_word);
                is_forbid |= bytes.get(at..end) == Some(b"forbid".as_slice());
                end
            }
            _ => at + 1,
        };
        match byte {
            b'(' | b'[' => {
                if is_forbid && depth == 0 {
                    marks.push(at);
                }
                depth += 1;
            }
            b',' if is_forbid && depth == 1 => marks.push(at),
            b')' | b']' => {
                depth = depth.saturating_sub(1);
                if is_forbid && depth == 0 {
                    marks.push(at);
                    break;
                }
            }
            _ => {}
        }
        at = end;
    }
    let between = |from: usize, to: usize| {
        let (from, to) = (*marks.get(from)?, *marks.get(to)?);
        policy.get(from + 1..to)
    };
    Some(Parts {
        principal: between(0, 1)?,
        resource: between(2, 3)?,
        conditions: policy.get(marks.last()? + 1..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_taken_apart_at_its_scope() {
        let text = "@forbid(\"a, (b\")\n// forbid (x,\nforbid ( principal == Plugin::\"a,)(\", action in [Action::\"x\", \
                    Action::\"y\"], resource is Project )\nwhen { (1 == 2) };";
        let parts = parts(text).unwrap();
        assert_eq!(parts.principal.trim(), "principal == Plugin::\"a,)(\"");
        assert_eq!(parts.resource.trim(), "resource is Project");
        assert_eq!(parts.conditions.trim(), "when { (1 == 2) };");
    }

    #[test]
    fn what_is_counted_is_outside_of_texts_and_comments() {
        let policy = |condition: &str| {
            format!("forbid (principal, action, resource) when {{ {condition} }};")
        };
        let quoted = format!("\"{}\\\"{}\" == \"\"", "(".repeat(200), "&&".repeat(600));
        let depths = |text: &str| Total::default().add(text).unwrap();
        assert_eq!(depths(&policy(&quoted)), [2]);
        let comment = format!("true // {}\n", "!(".repeat(600));
        assert_eq!(depths(&policy(&comment)), [2]);
        let two = format!("{}{}", policy("a && b"), policy("!a"));
        assert_eq!(check(&two).unwrap().len(), 2);
    }

    #[test]
    fn the_one_that_is_too_much_is_named() {
        let policy = |condition: &str| {
            format!("\nforbid (principal, action, resource)\nwhen {{\n{condition} }};")
        };
        let many =
            |operator: &str, count| policy(&format!("a{}", format!(" {operator} a").repeat(count)));
        for (text, words) in [
            (
                policy(&"(".repeat(100)),
                "brackets in brackets, more than 100 deep",
            ),
            (
                policy(&"[{".repeat(50)),
                "brackets in brackets, more than 100 deep",
            ),
            (many("&&", 500), "more than 500 of"),
            (many("||", 500), "more than 500 of"),
            (many("+", 500), "more than 500 of"),
            (policy(&"if a then b else ".repeat(500)), "more than 500 of"),
            (" when { a }".repeat(501), "more than 500 of"),
            (
                policy(&format!("a{}", ".b".repeat(17))),
                "more than 16 in a row",
            ),
            (
                policy(&format!("a has a{}", " . b".repeat(17))),
                "more than 16 in a row",
            ),
        ] {
            let excess = check(&text).unwrap_err();
            assert!(excess.message.contains(words), "{words}: {excess:?}");
            assert!(excess.at < text.len());
        }
        check(&many("||", 499)).unwrap();
        check(&policy(&"(".repeat(99))).unwrap();
        check(&policy(&format!("a{}", ".b".repeat(16)))).unwrap();
        assert!(check(&"\n".repeat(MAX_FILE)).unwrap().is_empty());
        let excess = check(&"\n".repeat(MAX_FILE + 1)).unwrap_err();
        assert!(excess.message.contains("256 KiB"), "{excess:?}");
    }

    #[test]
    fn all_files_together_are_bounded_too() {
        let rule = "forbid (principal, action, resource);\n";
        let long = |operators: usize| {
            format!(
                "forbid (principal, action, resource) when {{ a{} }};\n",
                " || a".repeat(operators)
            )
        };
        for (text, times, words) in [
            (rule.repeat(100), 5, "more than 500 guardrails"),
            (long(499), 10, "more than 5000 operators"),
            ("\n".repeat(128 << 10), 4, "more than 512 KiB"),
        ] {
            let mut total = Total::default();
            for _ in 0..times {
                total.add(&text).unwrap();
            }
            let excess = total.add(&text).unwrap_err();
            assert!(excess.message.contains(words), "{excess:?}");
        }
    }
}
