;; trick: arguments that are nested ten thousand deep; it returns 6, the case `invalid-argument`
;; at: fine
;; expect: 6
;; grant: allow = ["raw/list_everything", "projects/read-project"]
;; grant: projects = ["*"]

(import "quantconnect:api/raw@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "read_project")
(data (i32.const 8192) "{\22projectId\22:")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (memory.fill (i32.const 8205) (i32.const 0x5b) (i32.const 10000))
  (call $call (i32.const 4096) (i32.const 12) (i32.const 8192) (i32.const 10013) (i32.const 2048))
  (call $digit (i32.load8_u (i32.const 2056))))
