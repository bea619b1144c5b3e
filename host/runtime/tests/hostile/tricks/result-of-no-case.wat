;; trick: a result that is neither success nor failure
;; at: invoke
;; expect: invalid expected discriminant

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 77))
  (i32.const 1024))
