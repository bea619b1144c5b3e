;; trick: batches of a thousand backtests of a project that is not granted, again and again
;; at: invoke
;; expect: it used up the 1 s on the processor of `limits.cpu`
;; limits: cpu = "1s"
;; grant: allow = ["workflow", "backtests/*"]
;; grant: projects = [1]

(import "qchost:agent/workflow@0.1.0" "run-backtests" (func $run (param i32 i32 i32 i32 i32 i32 i32)))
(memory (export "memory") 64)
(data (i32.const 4096) "c")
;; The answers go always to the same place.
(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (i32.const 2097152))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $run (i32.const 7) (i32.const 4096) (i32.const 1) (i32.const 262144) (i32.const 1000) (i32.const -1) (i32.const 2048))
    (br $more))
  unreachable)
