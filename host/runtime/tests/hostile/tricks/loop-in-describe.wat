;; trick: a loop without end before the first invocation
;; at: load
;; expect: it takes more than the 0.1 s on the processor that a description may

(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  (loop $for-ever (br $for-ever))
  unreachable)
