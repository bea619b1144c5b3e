;; trick: a write far behind the end of its memory
;; at: invoke
;; expect: out of bounds memory access

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (i32.store (i32.const 0x7ffffff0) (i32.const 1))
  unreachable)
