;; trick: an output that acts on the reader's terminal
;; at: invoke
;; expect: the output is not usable JSON

(data (i32.const 4096) "\1b]0;owned\07\1b[2J")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $ok (i32.const 4096) (i32.const 14)))
