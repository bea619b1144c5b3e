//! The macro that binds an interface.

/// Binds the functions of one interface to the operations of the same name, and, in braces, any
/// function that consists of more than one operation.
macro_rules! capability {
    (
        $( $function:ident($($parameter:ident: $ty:ty),*) -> $answer:ty; )*
        $( { $($more:item)* } )?
    ) => {
        impl Host for $crate::calls::CallContext {
            $(
                // A function without parameters adds no argument.
                #[allow(unused_mut)]
                async fn $function(&mut self, $($parameter: $ty),*) -> Result<$answer, Error> {
                    const OPERATION: &qchost_catalog::Operation =
                        qchost_catalog::operation(stringify!($function));
                    let mut arguments = $crate::adapter::Arguments::of(OPERATION);
                    $(
                        arguments
                            .push(&$parameter)
                            .map_err(|misfit| $crate::calls::invalid(OPERATION, &misfit))?;
                    )*
                    self.call(OPERATION, arguments.finish()).await
                }
            )*
            $($($more)*)?
        }

        /// Adds the interface to a linker.
        pub(super) fn link<T: Send + 'static>(
            linker: &mut wasmtime::component::Linker<T>,
            calls: fn(&mut T) -> &mut $crate::calls::CallContext,
        ) -> wasmtime::Result<()> {
            use wasmtime::component::HasSelf;
            add_to_linker::<_, HasSelf<$crate::calls::CallContext>>(linker, calls)
        }

        /// The bindings, for tests and fuzz targets.
        #[cfg(any(test, feature = "fuzzing"))]
        pub(super) fn bound() -> Vec<$crate::capabilities::bound::Bound> {
            vec![$({
                const OPERATION: &qchost_catalog::Operation =
                    qchost_catalog::operation(stringify!($function));
                $crate::capabilities::bound::Bound {
                    operation: OPERATION,
                    answer: |body| {
                        $crate::adapter::decode_answer::<$answer>(OPERATION, body, &$crate::adapter::LeftOut::default())
                            .map(|answer| $crate::capabilities::bound::TypedAnswer::new(OPERATION, &answer))
                    },
                    round_trip: |arguments| {
                        #[allow(unused_mut, unused_variables)]
                        let mut reader = $crate::capabilities::bound::ArgumentReader::of(OPERATION, arguments);
                        #[allow(unused_mut)]
                        let mut arguments = $crate::adapter::Arguments::of(OPERATION);
                        $(
                            let $parameter: $ty = reader.next()?;
                            arguments.push(&$parameter)?;
                        )*
                        Ok(arguments.finish())
                    },
                }
            }),*]
        }
    };
}
