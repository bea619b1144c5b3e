;; trick: a pattern whose program would take gigabytes
;; at: load
;; expect: the input schema of `act`
;; action: act {"pattern":"((a{1000}){1000}){1000}"}
