;; trick: arguments that are nested ten thousand deep, and well-formed; it fails with what `invalid-argument` says
;; at: invoke
;; expect: read_project: the arguments are not a JSON object: recursion limit exceeded
;; grant: allow = ["raw/list_everything", "projects/read-project"]
;; grant: projects = ["*"]

(import "quantconnect:api/raw@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "read_project")
(data (i32.const 8192) "{\22projectId\22:")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (memory.fill (i32.const 8205) (i32.const 0x5b) (i32.const 10000))
  (memory.fill (i32.const 18205) (i32.const 0x5d) (i32.const 10000))
  (i32.store8 (i32.const 28205) (i32.const 0x7d))
  (call $call (i32.const 4096) (i32.const 12) (i32.const 8192) (i32.const 20014) (i32.const 2048))
  (if (i32.eqz (i32.load8_u (i32.const 2048))) (then unreachable))
  (if (i32.ne (i32.load8_u (i32.const 2056)) (i32.const 6)) (then unreachable))
  (call $fail (i32.load (i32.const 2064)) (i32.load (i32.const 2068))))
