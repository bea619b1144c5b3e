;; trick: a component for another world
;; at: load
;; expect: the component is no agent: it does not export `qchost:agent/guest@0.1.0` (it exports run)

(component
  (core module $module (func (export "run")))
  (core instance $instance (instantiate $module))
  (func $run (canon lift (core func $instance "run")))
  (export "run" (func $run)))
