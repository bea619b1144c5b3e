;; trick: a result whose address is odd
;; at: invoke
;; expect: not aligned

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (i32.const 1025))
