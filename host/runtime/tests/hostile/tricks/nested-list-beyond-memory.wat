;; trick: a proper list whose one element has a text that ends outside of its memory
;; at: invoke
;; expect: out of bounds

(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "\00\10\00\00" "\01\00\00\00" "\00\10\00\00" "\ff\ff\ff\7f")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $write (i32.const 2) (i32.const 4096) (i32.const 0) (i32.const 4096) (i32.const 1))
  unreachable)
