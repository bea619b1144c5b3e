;; trick: two actions of one name
;; at: load
;; expect: there are two actions called `act`
;; action: act {}
;; action: act {"type":"object"}
