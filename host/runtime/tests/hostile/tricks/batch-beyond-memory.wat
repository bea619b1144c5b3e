;; trick: a batch of more backtests than its memory could hold
;; at: invoke
;; expect: out of bounds
;; grant: allow = ["workflow", "compile/*", "backtests/*"]
;; grant: projects = ["*"]

(import "qchost:agent/workflow@0.1.0" "run-backtests" (func $run (param i32 i32 i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $run (i32.const 7) (i32.const 4096) (i32.const 1) (i32.const 4096) (i32.const 0x0fffffff) (i32.const 1) (i32.const 2048))
  unreachable)
