;; trick: arguments of twelve million values, each a byte in the plugin and many in the host; it fails with what `invalid-argument` says
;; at: invoke
;; expect: read_project: the arguments are not a JSON object: it has more than 20000 values
;; limits: memory = "64MiB"
;; limits: cpu = "60s"
;; grant: allow = ["raw/list_everything", "projects/read-project"]
;; grant: projects = ["*"]

(import "quantconnect:api/raw@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "read_project")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $at i32)
  (drop (memory.grow (i32.const 390)))
  ;; {"a":[0
  (i32.store (i32.const 131072) (i32.const 0x2261227b))
  (i32.store16 (i32.const 131076) (i32.const 0x5b3a))
  (i32.store8 (i32.const 131078) (i32.const 0x30))
  (local.set $at (i32.const 131079))
  (loop $values
    (i32.store16 (local.get $at) (i32.const 0x302c))
    (local.set $at (i32.add (local.get $at) (i32.const 2)))
    (br_if $values (i32.lt_u (local.get $at) (i32.const 25296000))))
  (i32.store16 (local.get $at) (i32.const 0x7d5d))
  (global.set $heap (i32.add (local.get $at) (i32.const 1024)))
  (call $call (i32.const 4096) (i32.const 12) (i32.const 131072)
    (i32.sub (local.get $at) (i32.const 131070)) (i32.const 2048))
  (if (i32.eqz (i32.load8_u (i32.const 2048))) (then unreachable))
  (if (i32.ne (i32.load8_u (i32.const 2056)) (i32.const 6)) (then unreachable))
  (call $fail (i32.load (i32.const 2064)) (i32.load (i32.const 2068))))
