;; trick: a failure of a kind that the contract does not have
;; at: invoke
;; expect: unexpected discriminant

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 1))
  (i32.store8 (i32.const 1032) (i32.const 200))
  (i32.const 1024))
