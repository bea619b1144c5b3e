;; trick: a description with more actions than its memory could hold
;; at: load
;; expect: out of bounds

(data (i32.const 4104) "\00\10\00\00" "\00\00\00\00" "\00\10\00\00" "\00\00\00\00" "\00\10\00\00" "\00\00\00\00" "\00\10\00\00" "\ff\ff\ff\7f")
(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  (i32.const 4104))
