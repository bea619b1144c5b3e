;; trick: a tool whose name is half a megabyte of control characters; it returns 6, the case `invalid-argument`
;; at: fine
;; expect: 6
;; grant: allow = ["raw/list_everything", "projects/read-project"]
;; grant: projects = ["*"]

(import "quantconnect:api/raw@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "{}")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 16)))
  (memory.fill (i32.const 65536) (i32.const 7) (i32.const 524288))
  (call $call (i32.const 65536) (i32.const 524288) (i32.const 4096) (i32.const 2) (i32.const 2048))
  (call $digit (i32.load8_u (i32.const 2056))))
