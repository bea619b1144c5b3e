;; trick: a loop without end
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $for-ever (br $for-ever))
  unreachable)
