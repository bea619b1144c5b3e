;; trick: a printed line, a byte at a time with pauses, so as to hold what it has forever
;; at: invoke
;; expect: it was not done after the 0.4 s of `limits.wall`
;; limits: wall = "400ms"

(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
(data (i32.const 4096) ".")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $stream i32) (local $pollable i32)
  (local.set $stream (call $stdout))
  (loop $more
    (call $write (local.get $stream) (i32.const 4096) (i32.const 1) (i32.const 2048))
    (local.set $pollable (call $subscribe (i64.const 20000000)))
    (call $block (local.get $pollable))
    (call $drop (local.get $pollable))
    (br $more))
  unreachable)
