;; trick: an export of the right name with nothing in it
;; at: load
;; expect: the component does not fit this host's contract

(component
  (instance $empty)
  (export "qchost:agent/guest@0.1.0" (instance $empty)))
