;; trick: calls that are denied in a loop, each of which the host decides about and writes down
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"
;; limits: wall = "30s"
;; grant: allow = ["projects/read-project"]
;; grant: projects = ["*"]

(import "quantconnect:api/projects@0.1.0" "list-projects" (func $list (param i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (local $heap i32)
  (local.set $heap (global.get $heap))
  (loop $for-ever
    (global.set $heap (local.get $heap))
    (call $list (i32.const 2048))
    (br $for-ever))
  unreachable)
