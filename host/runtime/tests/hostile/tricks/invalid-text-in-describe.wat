;; trick: a name that is not UTF-8
;; at: load
;; expect: utf-8

(data (i32.const 4096) "\ff\ff")
(data (i32.const 4104) "\00\10\00\00" "\02\00\00\00" "\00\10\00\00" "\00\00\00\00" "\00\10\00\00" "\00\00\00\00" "\00\10\00\00" "\00\00\00\00")
(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  (i32.const 4104))
