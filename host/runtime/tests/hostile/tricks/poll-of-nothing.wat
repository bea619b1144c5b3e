;; trick: a wait for any of nothing
;; at: invoke
;; expect: empty poll list

(import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $poll (i32.const 4096) (i32.const 0) (i32.const 2048))
  unreachable)
