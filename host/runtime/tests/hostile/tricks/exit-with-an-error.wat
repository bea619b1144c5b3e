;; trick: an exit in the midst of an action, as if it were a program
;; at: invoke
;; expect: it exited with status 1

(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $exit (i32.const 1))
  unreachable)
