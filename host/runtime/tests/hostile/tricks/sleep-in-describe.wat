;; trick: a wait that never ends before the first invocation
;; at: load
;; expect: it takes more than the 5 s in all that a description may

(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  (call $block (call $subscribe (i64.const 9000000000000000000)))
  unreachable)
