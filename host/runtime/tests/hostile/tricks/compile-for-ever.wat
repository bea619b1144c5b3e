;; trick: a wait for a compile that never ends; it returns 11, the case `timed-out`, before it is cut off
;; at: fine
;; expect: 11
;; limits: wall = "2s"
;; grant: allow = ["workflow", "compile/*", "backtests/*"]
;; grant: projects = ["*"]

(import "qchost:agent/workflow@0.1.0" "compile-and-wait" (func $compile (param i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $compile (i32.const 7) (i32.const 2048))
  (call $digit (i32.load8_u (i32.const 2056))))
