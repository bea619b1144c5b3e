;; trick: a result whose address is not in its memory
;; at: invoke
;; expect: out of bounds

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (i32.const 0x7ffffff0))
