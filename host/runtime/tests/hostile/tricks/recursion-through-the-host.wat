;; trick: a call of the host from ever deeper in the stack, with arguments that take the host many frames
;; at: invoke
;; expect: its stack is used up: it recurses too deeply
;; limits: cpu = "60s"
;; limits: wall = "90s"
;; grant: allow = ["raw/list_everything", "projects/read-project"]
;; grant: projects = ["*"]

(import "quantconnect:api/raw@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "read_project")
(data (i32.const 8192) "{\22projectId\22:1,\22x\22:<<120 [>><<120 ]>>}")
(func $deeper (param $depth i32) (result i32)
  (if (i32.eqz (i32.and (local.get $depth) (i32.const 511)))
    (then (call $call (i32.const 4096) (i32.const 12) (i32.const 8192) (i32.const 258) (i32.const 2048))))
  (i32.add (call $deeper (i32.add (local.get $depth) (i32.const 1))) (i32.const 1)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $deeper (i32.const 0)))
