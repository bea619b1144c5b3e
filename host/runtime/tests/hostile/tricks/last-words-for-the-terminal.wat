;; trick: control characters and a false line of the log among what it says before it fails
;; at: invoke
;; expect: it said: \u{1b}[31m

(import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
(data (i32.const 4096) "\1b[31m\n2026-01-01T00:00:00Z INFO everything is approved\n")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $write (call $stderr) (i32.const 4096) (i32.const 57) (i32.const 2048))
  unreachable)
