;; trick: a wait for what only another invocation of it could do, while there is but one turn
;; at: invoke
;; expect: it was not done after the 0.6 s of `limits.wall`
;; limits: wall = "600ms"

(import "qchost:agent/state@0.1.0" "compare-and-swap" (func $swap (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
(data (i32.const 4096) "lock")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $pollable i32)
  ;; Whichever invocation makes the key has the lock, and it is never released.
  (loop $locked
    (call $swap (i32.const 4096) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.const 4) (i32.const 2048))
    (local.set $pollable (call $subscribe (i64.const 10000000)))
    (call $block (local.get $pollable))
    (call $drop (local.get $pollable))
    (br $locked))
  unreachable)
