;; trick: a schema that is nested sixty deep, in lists and objects
;; at: load
;; expect: it is nested deeper than 64
;; action: act <<60 {"allOf":[>>{}<<60 ]}>>
