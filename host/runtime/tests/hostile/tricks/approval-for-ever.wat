;; trick: a wait for a person who never decides; it returns 11, the case `timed-out`, before it is cut off
;; at: fine
;; expect: 11
;; limits: wall = "1s"
;; grant: allow = ["compile/create-compile"]
;; grant: projects = ["*"]
;; grant: approval = "operator"

(import "quantconnect:api/compile@0.1.0" "create-compile" (func $create (param i32 i32)))
(import "qchost:agent/approvals@0.1.0" "wait" (func $wait (param i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $create (i32.const 7) (i32.const 2048))
  ;; It needs one: the error is `approval-required`, with its name.
  (if (i32.ne (i32.load8_u (i32.const 2056)) (i32.const 3)) (then unreachable))
  (call $wait (i32.load (i32.const 2064)) (i32.load (i32.const 2068)) (i32.const 2048))
  (call $digit (i32.load8_u (i32.const 2056))))
