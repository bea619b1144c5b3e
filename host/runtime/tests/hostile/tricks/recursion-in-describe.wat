;; trick: a function that calls itself without end before the first invocation
;; at: load
;; expect: its stack is used up: it recurses too deeply

(func $deeper (param i32) (result i32)
  (i32.add (call $deeper (local.get 0)) (i32.const 1)))
(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  (call $deeper (i32.const 0)))
