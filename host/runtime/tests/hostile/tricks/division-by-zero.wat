;; trick: a division by zero
;; at: invoke
;; expect: integer divide by zero

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (i32.div_u (i32.const 1) (i32.const 0)))
