;; trick: more patterns than a schema may have
;; at: load
;; expect: it has more than 64 patterns
;; action: act {"allOf":[<<100 {"pattern":"(a%)+"},>>{}]}
