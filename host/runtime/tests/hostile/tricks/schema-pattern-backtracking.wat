;; trick: a pattern that takes exponential time where patterns are tried one way after the other; its own input fits
;; at: fine
;; expect: "<<50000 a>>"
;; input: "<<50000 a>>"
;; action: act {"pattern":"^(a+)+$"}
