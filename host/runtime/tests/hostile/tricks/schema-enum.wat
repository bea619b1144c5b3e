;; trick: an enumeration of twenty thousand values
;; at: load
;; expect: bytes; at most 65536 are allowed
;; action: act {"enum":[<<20000 "v%",>>0]}
