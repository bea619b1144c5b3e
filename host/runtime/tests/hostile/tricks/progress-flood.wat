;; trick: reports of progress as fast as it can, of no number and without end
;; at: invoke
;; expect: it used up the 0.3 s on the processor of `limits.cpu`
;; limits: cpu = "300ms"

(import "qchost:agent/progress@0.1.0" "report" (func $report (param f64 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $report (f64.const nan) (i32.const 8192) (i32.const 20000))
    (br $more))
  unreachable)
