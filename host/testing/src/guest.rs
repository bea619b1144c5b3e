//! Plugins written as WebAssembly text.
//!
//! A plugin is a core module in text form around the body of its `invoke`, turned into a component
//! against the contract in `wit/`. The body finds the action and the input in its parameters and
//! leaves the address of its result, for which there are `$ok`, `$digit` and `$fail`. Whatever else
//! an agent exports is there too, unless the plugin has its own.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A plugin on its way to a component.
pub struct Guest {
    /// Interfaces that it imports, as lines of its world.
    pub world: String,
    /// Packages besides the contract's, as WIT.
    pub packages: Vec<String>,
    /// Imports of the core module.
    pub imports: String,
    /// More functions and data of the core module. Data goes between 4096 and 32768. What is
    /// exported here takes the place of what every plugin has under that name.
    pub more: String,
    /// The body of `invoke`.
    pub invoke: String,
    /// The body of `describe`, if it is not to return the description.
    pub describe: Option<String>,
    pub name: String,
    /// Actions with the schemas of their inputs.
    pub actions: Vec<(String, String)>,
    /// The schema of all their outputs.
    pub output: String,
    /// The schema of its settings, if it has one.
    pub config: Option<String>,
}

impl Guest {
    /// A plugin with one action, `act`.
    pub fn new(invoke: &str) -> Self {
        Self {
            world: String::new(),
            packages: Vec::new(),
            imports: String::new(),
            more: String::new(),
            invoke: invoke.to_owned(),
            describe: None,
            name: "guest".to_owned(),
            actions: vec![("act".to_owned(), "{}".to_owned())],
            output: "{}".to_owned(),
            config: None,
        }
    }

    /// Returns its input.
    pub fn echo() -> Self {
        Self::new("(call $ok (local.get $input) (local.get $input_len))")
    }

    /// Makes a call `times` times, which leaves its result at 2048 and anything longer where the last one left it,
    /// and returns 1. A result that is an error traps.
    pub fn often(times: u32, call: &str) -> Self {
        Self::new(&format!(
            "(local.set $m (global.get $heap))
             (local.set $n (i32.const {times}))
             (block $done (loop $again
               (br_if $done (i32.eqz (local.get $n)))
               (global.set $heap (local.get $m))
               {call}
               (if (i32.load8_u (i32.const 2048)) (then unreachable))
               (local.set $n (i32.sub (local.get $n) (i32.const 1)))
               (br $again)))
             (call $digit (i32.const 1))"
        ))
    }

    /// Reports that it runs and waits, with all that it has, until `go` is set in its state; then it does what
    /// `then` says.
    pub fn waiting(then: &str) -> Self {
        Self::new(&format!(
            "(call $report (f64.const 1) (i32.const 0) (i32.const 0))
             (loop $wait
               (call $get (i32.const 4096) (i32.const 2) (i32.const 2048))
               (br_if $wait (i32.eqz (i32.load8_u (i32.const 2052)))))
             {then}"
        ))
        .import(
            "import qchost:agent/progress@0.1.0;",
            r#"(import "qchost:agent/progress@0.1.0" "report" (func $report (param f64 i32 i32)))"#,
        )
        .import(
            "import qchost:agent/state@0.1.0;",
            r#"(import "qchost:agent/state@0.1.0" "get" (func $get (param i32 i32 i32)))"#,
        )
        .more(r#"(data (i32.const 4096) "go")"#)
    }

    /// With an import: a line of the world, and the core module's import.
    pub fn import(mut self, world: &str, core: &str) -> Self {
        writeln!(self.world, "{world}").unwrap();
        writeln!(self.imports, "{core}").unwrap();
        self
    }

    pub fn package(mut self, wit: &str) -> Self {
        self.packages.push(wit.to_owned());
        self
    }

    pub fn more(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self
    }

    pub fn describe(mut self, body: &str) -> Self {
        self.describe = Some(body.to_owned());
        self
    }

    pub fn actions(mut self, actions: &[(&str, &str)]) -> Self {
        self.actions = actions
            .iter()
            .map(|(name, schema)| ((*name).to_owned(), (*schema).to_owned()))
            .collect();
        self
    }

    pub fn output(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.output);
        self
    }

    pub fn config(mut self, schema: &str) -> Self {
        self.config = Some(schema.to_owned());
        self
    }

    /// The core module, as text.
    fn module(&self) -> String {
        let mut data = Data::new();
        let mut actions = Vec::new();
        for (name, schema) in &self.actions {
            for text in [name.as_str(), "acts", schema, &self.output] {
                actions.extend(data.text(text));
            }
            // The hints: three flags, and one byte to the next multiple of four.
            actions.extend([1, 0, 1, 0]);
        }
        let actions_at = data.bytes(&actions);
        let mut description = Vec::new();
        for text in [self.name.as_str(), "1.2.3", "A plugin of a test."] {
            description.extend(data.text(text));
        }
        description.extend(actions_at.to_le_bytes());
        description.extend(u32::try_from(self.actions.len()).unwrap().to_le_bytes());
        // The option's case, in four bytes, and its text.
        description.extend(u32::from(self.config.is_some()).to_le_bytes());
        description.extend(
            self.config
                .as_deref()
                .map_or([0; 8], |text| data.text(text)),
        );
        let description = data.bytes(&description);
        let describe = self
            .describe
            .clone()
            .unwrap_or_else(|| format!("(i32.const {description})"));
        let (imports, more, invoke, segments) =
            (&self.imports, &self.more, &self.invoke, &data.segments);
        let heap = data.next.next_multiple_of(65536);
        let pages = heap / 65536 + 1;
        let standard = [
            ("memory", format!(r#"(memory (export "memory") {pages})"#)),
            (
                "cabi_realloc",
                format!("(global $heap (mut i32) (i32.const {heap})) {ALLOCATOR}"),
            ),
            (
                "qchost:agent/guest@0.1.0#describe",
                format!(
                    r#"(func (export "qchost:agent/guest@0.1.0#describe") (result i32) {describe})"#
                ),
            ),
            (
                "qchost:agent/guest@0.1.0#invoke",
                format!(
                    r#"(func (export "qchost:agent/guest@0.1.0#invoke")
                        (param $action i32) (param $action_len i32)
                        (param $input i32) (param $input_len i32) (result i32)
                        (local $n i32) (local $m i32)
                        {invoke})"#
                ),
            ),
            ("qchost:agent/guest@0.1.0#handle", HANDLE.to_owned()),
        ];
        let standard: Vec<_> = standard
            .into_iter()
            .filter(|(export, _)| !more.contains(&format!("(export \"{export}\")")))
            .map(|(_, part)| part)
            .collect();
        let standard = standard.join("\n");
        format!("(module {imports} {standard} {RESULTS} {more} {segments})")
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        self.encode().unwrap()
    }

    /// The component; the error says what is wrong with the text.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let mut module = wat::parse_str(self.module()).map_err(|error| error.to_string())?;
        let mut resolve = CONTRACT.clone();
        let world = format!(
            "package test:guest;\nworld guest {{\n{}\nexport qchost:agent/guest@0.1.0;\n}}",
            self.world
        );
        let mut package = None;
        for wit in self.packages.iter().chain([&world]) {
            let pushed = resolve.push_str("guest.wit", wit);
            package = Some(pushed.map_err(|error| format!("{error:#}"))?);
        }
        let encoded = resolve
            .select_world(package.as_slice(), Some("guest"))
            .and_then(|world| {
                let utf8 = StringEncoding::UTF8;
                embed_component_metadata(&mut module, &resolve, world, utf8)?;
                ComponentEncoder::default()
                    .validate(true)
                    .module(&module)?
                    .encode()
            });
        encoded.map_err(|error| format!("{error:#}"))
    }
}

static CONTRACT: LazyLock<Resolve> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_dir(&contract).unwrap();
    resolve
});

/// Memory for what the host hands in, from the end of the data on. Nothing is ever freed.
const ALLOCATOR: &str = r#"
(func $alloc (export "cabi_realloc")
  (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and
    (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
    (i32.sub (i32.const 0) (local.get $align))))
  (global.set $heap (i32.add (local.get $at) (local.get $len)))
  (block $enough (loop $more
    (br_if $enough (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
    (br $more)))
  (local.get $at))"#;

/// Results of `invoke`.
const RESULTS: &str = r#"
;; result::ok with a text
(func $ok (param $at i32) (param $len i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 0))
  (i32.store (i32.const 1032) (local.get $at))
  (i32.store (i32.const 1036) (local.get $len))
  (i32.const 1024))
;; result::ok with a number from 0 to 99
(func $digit (param $number i32) (result i32)
  (i32.store8 (i32.const 1100) (i32.const 32))
  (if (i32.ge_u (local.get $number) (i32.const 10))
    (then (i32.store8 (i32.const 1100)
      (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 10))))))
  (i32.store8 (i32.const 1101)
    (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
  (call $ok (i32.const 1100) (i32.const 2)))
;; result::err with failure::failed
(func $fail (param $at i32) (param $len i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 1))
  (i32.store8 (i32.const 1032) (i32.const 3))
  (i32.store (i32.const 1040) (local.get $at))
  (i32.store (i32.const 1044) (local.get $len))
  (i32.const 1024))"#;

/// Hears of everything and does nothing.
const HANDLE: &str = r#"
(func (export "qchost:agent/guest@0.1.0#handle")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 0)) (i32.const 1024))"#;

/// Data of a core module, from 32768 on.
struct Data {
    segments: String,
    next: u32,
}

impl Data {
    fn new() -> Self {
        Self {
            segments: String::new(),
            next: 32768,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let at = self.next;
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(self.segments, "(data (i32.const {at}) \"{escaped}\")").unwrap();
        self.next += u32::try_from(bytes.len())
            .unwrap()
            .next_multiple_of(8)
            .max(8);
        at
    }

    /// A text's address and length, as they stand in a record.
    fn text(&mut self, text: &str) -> [u8; 8] {
        let at = self.bytes(text.as_bytes());
        let mut pair = [0; 8];
        pair[..4].copy_from_slice(&at.to_le_bytes());
        pair[4..].copy_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
        pair
    }
}
