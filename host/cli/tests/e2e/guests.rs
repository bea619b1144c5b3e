//! Small plugins, generated as text: they return their version, or make given calls. Each test gets its own,
//! and none needs a compiler.

use qchost_testing::Guest;

/// Where the result of a call is stored, behind the contract's own result.
const RESULT: u32 = 3072;

/// A call that a plugin makes: a tool and its arguments; absent arguments are the action's input.
pub type Call<'a> = (&'a str, Option<&'a str>);

/// A plugin whose `act` returns a number from 0 to 99.
pub fn version(number: u32) -> Vec<u8> {
    answering(number).build()
}

/// The same, with bytes that depend on the name.
pub fn marked(number: u32, mark: &str) -> Vec<u8> {
    answering(number)
        .more(&format!("(data (i32.const 4096) \"{mark}\")"))
        .build()
}

fn answering(number: u32) -> Guest {
    Guest::new(&answer(number))
}

fn answer(number: u32) -> String {
    format!("(call $digit (i32.const {number}))")
}

/// A plugin whose `act` makes calls one after the other and returns a number if all succeed; otherwise the
/// action fails with the first error.
pub fn caller(number: u32, calls: &[Call<'_>]) -> Vec<u8> {
    let mut caller = Caller::default();
    let body = caller.calls(calls);
    caller.build(Guest::new(&(body + &answer(number))))
}

/// A plugin whose `act` repeats a call until it fails.
pub fn restless(call: Call<'_>) -> Vec<u8> {
    let mut caller = Caller::default();
    let body = caller.calls(&[call]);
    caller.build(Guest::new(&format!(
        "(loop $more {body} (br $more)) unreachable"
    )))
}

/// A plugin whose `act` passes its input to a tool again and again, ignoring the results, and whose `count`
/// only counts.
pub fn insistent(tool: &str) -> Vec<u8> {
    let mut caller = Caller::default();
    let (tool, count) = (caller.text(tool), "count".len());
    let body = format!(
        "(if (i32.eq (local.get $action_len) (i32.const {count})) (then (loop $count (br $count)) unreachable))
         (local.set $m (global.get $heap))
         (loop $more
           (global.set $heap (local.get $m))
           (call $tool {tool} (local.get $input) (local.get $input_len) (i32.const {RESULT}))
           (br $more))
         unreachable"
    );
    caller.build(Guest::new(&body).actions(&[("act", "{}"), ("count", "{}")]))
}

/// A plugin whose `act` returns a number at once and whose `slow` returns it after a call.
pub fn worker(number: u32, call: Call<'_>) -> Vec<u8> {
    let mut caller = Caller::default();
    let body = caller.calls(&[call]);
    let slow = "slow".len();
    let body = format!(
        "(if (i32.eq (local.get $action_len) (i32.const {slow})) (then {body})) {}",
        answer(number)
    );
    caller.build(Guest::new(&body).actions(&[("act", "{}"), ("slow", "{}")]))
}

/// A plugin whose `act` reports progress and makes a call, repeatedly, until it fails.
pub fn reporter(call: Call<'_>) -> Vec<u8> {
    let mut caller = Caller::default();
    let body = caller.calls(&[call]);
    let message = "x".repeat(200);
    let guest = Guest::new(&format!(
        "(loop $more (call $report (f64.const 0.5) (i32.const 8192) (i32.const 200)) {body} (br $more)) unreachable"
    ))
    .import(
        "import qchost:agent/progress@0.1.0;",
        r#"(import "qchost:agent/progress@0.1.0" "report" (func $report (param f64 i32 i32)))"#,
    )
    .more(&format!("(data (i32.const 8192) \"{message}\")"));
    caller.build(guest)
}

/// A plugin whose `act` logs a line `times` times, and reports before that it begins and after it that it is done.
pub fn logger(times: u32) -> Vec<u8> {
    Guest::new(&format!(
        "(call $report (f64.const 0) (i32.const 4096) (i32.const 5))
         (local.set $n (i32.const {times}))
         (loop $again
           (call $write (i32.const 1) (i32.const 4096) (i32.const 5) (i32.const 0) (i32.const 0))
           (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (call $report (f64.const 1) (i32.const 4096) (i32.const 5))
         (call $digit (i32.const 1))"
    ))
    .import(
        "import qchost:agent/log@0.1.0;",
        r#"(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))"#,
    )
    .import(
        "import qchost:agent/progress@0.1.0;",
        r#"(import "qchost:agent/progress@0.1.0" "report" (func $report (param f64 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "again")"#)
    .build()
}

/// A plugin whose `act` compiles a project. If that needs an approval, it waits for it and tries again.
pub fn asking(project: u64) -> Vec<u8> {
    // Of an error, its kind is at 3080 and the identifier of an approval at 3088; the fourth kind is `approval-required`.
    Guest::new(&format!(
        "(call $compile (i32.const {project}) (i32.const 3072))
         (if (i32.load8_u (i32.const 3072)) (then
           (if (i32.ne (i32.load8_u (i32.const 3080)) (i32.const 3)) (then unreachable))
           (call $wait (i32.load (i32.const 3088)) (i32.load (i32.const 3092)) (i32.const 3584))
           (if (i32.load8_u (i32.const 3584)) (then (return (call $fail (i32.const 4096) (i32.const 6)))))
           (call $compile (i32.const {project}) (i32.const 3072))
           (if (i32.load8_u (i32.const 3072)) (then unreachable))))
         (call $digit (i32.const 1))"
    ))
    .import(
        "import quantconnect:api/compile@0.1.0;",
        r#"(import "quantconnect:api/compile@0.1.0" "create-compile" (func $compile (param i32 i32)))"#,
    )
    .import(
        "import qchost:agent/approvals@0.1.0;",
        r#"(import "qchost:agent/approvals@0.1.0" "wait" (func $wait (param i32 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "no yes")"#)
    .build()
}

/// A plugin like `version`, which takes a while to compile.
pub fn long(number: u32) -> Vec<u8> {
    slow_to_compile(number).build()
}

/// The same, with bytes that depend on the name.
pub fn long_marked(number: u32, mark: &str) -> Vec<u8> {
    slow_to_compile(number)
        .more(&format!("(data (i32.const 4096) \"{mark}\")"))
        .build()
}

fn slow_to_compile(number: u32) -> Guest {
    // Repeats x * x + x.
    let step = "(local.set $x (i32.add (i32.mul (local.get $x) (local.get $x)) (local.get $x)))";
    let function = format!(
        "(func (param $x i32) (result i32) {} (local.get $x))\n",
        step.repeat(10)
    );
    answering(number).more(&function.repeat(20_000))
}

/// A plugin whose `act` writes a key of its state and returns the new version.
pub fn counter() -> Vec<u8> {
    Guest::new(
        "(call $set (i32.const 4096) (i32.const 1) (local.get $input) (local.get $input_len) (i32.const 3072))
         (if (i32.load8_u (i32.const 3072)) (then (return (call $fail (i32.const 4096) (i32.const 1)))))
         (local.set $n (i32.load (i32.const 3076)))
         (local.set $m (i32.const 1200))
         (loop $more
           (local.set $m (i32.sub (local.get $m) (i32.const 1)))
           (i32.store8 (local.get $m) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
           (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
           (br_if $more (local.get $n)))
         (call $ok (local.get $m) (i32.sub (i32.const 1200) (local.get $m)))",
    )
    .import(
        "import qchost:agent/state@0.1.0;",
        r#"(import "qchost:agent/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "k")"#)
    .build()
}

/// Files that are no new version of a plugin, each for another reason, with a part of the host's message.
pub fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let whole = version(1);
    let half = whole.get(..whole.len() / 2).unwrap().to_vec();
    let unknown = Guest::echo()
        .package("package test:unknown@1.0.0; interface powers { take: func(); }")
        .import(
            "import test:unknown/powers@1.0.0;",
            r#"(import "test:unknown/powers@1.0.0" "take" (func))"#,
        );
    let ungranted = Guest::echo().import(
        "import quantconnect:api/optimizations@0.1.0;",
        r#"(import "quantconnect:api/optimizations@0.1.0" "list-optimizations" (func (param i32 i32)))"#,
    );
    let mut renamed = answering(3);
    renamed.name = "somebody-else".to_owned();
    vec![
        ("begins with", b"this is no component".to_vec()),
        ("truncated", half),
        ("is empty", Vec::new()),
        ("core module", wat::parse_str("(module)").unwrap()),
        ("export", wat::parse_str("(component)").unwrap()),
        ("test:unknown/powers", unknown.build()),
        ("optimizations", ungranted.build()),
        (
            "0.1 s on the processor",
            answering(3)
                .describe("(loop $l (br $l)) unreachable")
                .build(),
        ),
        ("unreachable", answering(3).describe("unreachable").build()),
        ("somebody-else", renamed.build()),
    ]
}

/// Builds a plugin that makes calls. Its texts are stored from address 4096 on.
#[derive(Default)]
struct Caller {
    texts: String,
    next: u32,
}

impl Caller {
    fn calls(&mut self, calls: &[Call<'_>]) -> String {
        calls
            .iter()
            .map(|(tool, arguments)| {
                let tool = self.text(tool);
                let arguments = match arguments {
                    Some(arguments) => self.text(arguments),
                    None => "(local.get $input) (local.get $input_len)".to_owned(),
                };
                format!(
                    "(call $tool {tool} {arguments} (i32.const {RESULT}))
                     (if (i32.load8_u (i32.const {RESULT})) (then (return (call $refused))))\n"
                )
            })
            .collect()
    }

    /// Stores a text, and returns its address and length.
    fn text(&mut self, text: &str) -> String {
        let at = 4096 + self.next;
        self.texts += &format!("(data (i32.const {at}) \"{}\")\n", text.escape_default());
        self.next += u32::try_from(text.len()).unwrap();
        format!("(i32.const {at}) (i32.const {})", text.len())
    }

    fn build(&self, guest: Guest) -> Vec<u8> {
        // The contract's error is the payload of both results, of the call's and (as a case of its failure) of
        // the action's; it has 48 bytes.
        let refused = format!(
            "(func $refused (result i32)
               (i32.store8 (i32.const 1024) (i32.const 1))
               (i32.store8 (i32.const 1032) (i32.const 2))
               (memory.copy (i32.const 1040) (i32.const {}) (i32.const 48))
               (i32.const 1024))",
            RESULT + 8
        );
        guest
            .import(
                "import quantconnect:api/raw@0.1.0;",
                r#"(import "quantconnect:api/raw@0.1.0" "call-tool" (func $tool (param i32 i32 i32 i32 i32)))"#,
            )
            .more(&refused)
            .more(&self.texts)
            .build()
    }
}
