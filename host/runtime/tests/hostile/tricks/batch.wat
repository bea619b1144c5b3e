;; trick: a batch of ten thousand backtests; it returns 6, the case `invalid-argument`
;; at: fine
;; expect: 6
;; grant: allow = ["workflow", "compile/*", "backtests/*"]
;; grant: projects = ["*"]

(import "qchost:agent/workflow@0.1.0" "run-backtests" (func $run (param i32 i32 i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 8)))
  (call $run (i32.const 7) (i32.const 4096) (i32.const 1) (i32.const 262144) (i32.const 10000) (i32.const -1) (i32.const 2048))
  (call $digit (i32.load8_u (i32.const 2056))))
(data (i32.const 4096) "c")
