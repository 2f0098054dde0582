//! The one cxx bridge: what Rust calls of cpp/bridge.h. Every call that can throw returns a `Result`.

#[cxx::bridge(namespace = "hatted::bridge")]
#[allow(missing_docs, clippy::undocumented_unsafe_blocks)]
pub(crate) mod ffi {
    /// The scalar arguments of SVGD's operators (SVGD paper, Algorithm 1).
    ///
    /// ```
    /// use tch_svgd::functional::Hyperparameters;
    /// let paper_mlp = Hyperparameters { scale: 0.1, ..Default::default() };
    /// assert_eq!((paper_mlp.decay, paper_mlp.eps), (0.9, 1e-6));
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Hyperparameters {
        /// `s`: the factor of the virtual gradient. Finite, at least 0.
        pub scale: f64,
        /// `γ`: what the second moment keeps in an update. In [0, 1).
        pub decay: f64,
        /// `ε`: added to the second moment below the root. Finite, above 0.
        pub eps: f64,
        /// `k`: the factor of the gradient inside the statistic, and nowhere else; 0 or less means the batch size.
        pub gradient_scale: f64,
        /// Whether the bias gets the sum of the virtual gradient instead of that of the true one. A frozen weight has no
        /// virtual gradient: then the bias gets the true one.
        pub virtual_bias: bool,
    }

    /// The scalar arguments of TSO-ALRA's operators.
    ///
    /// ```
    /// use tch_svgd::functional::tso_alra::Preconditioning;
    /// let statistics_only = Preconditioning { precondition: false, ..Default::default() };
    /// assert!(statistics_only.update);
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Preconditioning {
        /// `γ`: the share of a new second moment in its average. In (0, 1].
        pub gamma: f64,
        /// `k`: the factor of the gradient inside `B`, and nowhere else; 0 or less means the batch size.
        pub gradient_scale: f64,
        /// Whether `A` is summed over the positions of an image, instead of averaged.
        pub sum_positions: bool,
        /// Whether a backward pass updates `A` and `B`.
        pub update: bool,
        /// Whether the gradient is put between the roots; it is the plain one otherwise.
        pub precondition: bool,
        /// Whether a preconditioned gradient is made as long as the plain one.
        pub graft: bool,
    }

    /// The geometry of a convolution; pairs are (height, width).
    ///
    /// ```
    /// use tch_svgd::functional::Convolution;
    /// let halving = Convolution { stride: [2, 2], padding: [1, 1], ..Default::default() };
    /// assert_eq!(halving.groups, 1);
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Convolution {
        /// Steps of the kernel, at least 1.
        pub stride: [i64; 2],
        /// Zeros added on both sides, at least 0.
        pub padding: [i64; 2],
        /// Distance between the taps of the kernel, at least 1.
        pub dilation: [i64; 2],
        /// Groups of channels that do not see each other, at least 1.
        pub groups: i64,
    }

    /// Stochastic gradient descent: `v ← μ v + (1 - τ) g`, at first `g`, and `w ← w - η v`; with Nesterov's momentum
    /// `w ← w - η (g + μ v)`. Without momentum `w ← w - η g`. `λ w` is added to `g` first.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Sgd {
        /// `μ`. At least 0.
        pub momentum: f64,
        /// `τ`. Finite.
        pub dampening: f64,
        /// `λ`. At least 0.
        pub weight_decay: f64,
        /// Whether the momentum is Nesterov's, for which it must be above 0 and the dampening 0.
        pub nesterov: bool,
    }

    /// Adam: `m ← β₁ m + (1 - β₁) g`, `r ← β₂ r + (1 - β₂) g²`, and
    /// `w ← w - η (m / (1 - β₁ᵗ)) / (√(r / (1 - β₂ᵗ)) + ε)`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Adam {
        /// `β₁`. In [0, 1).
        pub beta1: f64,
        /// `β₂`. In [0, 1).
        pub beta2: f64,
        /// `ε`. At least 0.
        pub eps: f64,
        /// Whether `ε` is inside of the root, `√(r / (1 - β₂ᵗ) + ε)`, as the SVGD paper has it.
        pub eps_inside_root: bool,
        /// `λ`, whose `λ w` is added to `g`. At least 0.
        pub weight_decay: f64,
        /// Whether `λ` is that of AdamW instead: `w ← w - η λ w` before the step, and no part of `g`.
        pub decoupled_weight_decay: bool,
        /// Whether the largest `r` so far stands in the place of `r`: AMSGrad.
        pub amsgrad: bool,
    }

    /// AdaGrad: `s ← s + g²`, and `w ← w - η / (1 + (t - 1) δ) g / (√s + ε)`. `λ w` is added to `g` first.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct AdaGrad {
        /// `δ`. At least 0.
        pub lr_decay: f64,
        /// `ε`. At least 0.
        pub eps: f64,
        /// `λ`. At least 0.
        pub weight_decay: f64,
        /// `s` before the first step. At least 0.
        pub initial_accumulator_value: f64,
    }

    /// RMSProp: `r ← α r + (1 - α) g²`, and `w ← w - η g / (√r + ε)`. With momentum `v ← μ v + g / (√r + ε)`, and `w ← w - η v`.
    /// `λ w` is added to `g` first.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct RmsProp {
        /// `α`. In [0, 1).
        pub alpha: f64,
        /// `ε`. At least 0.
        pub eps: f64,
        /// Whether `ε` is inside of the root, `√(r + ε)`, as the SVGD paper has it.
        pub eps_inside_root: bool,
        /// `λ`. At least 0.
        pub weight_decay: f64,
        /// `μ`. At least 0.
        pub momentum: f64,
        /// Whether `r - a²` stands in the place of `r`, where `a ← α a + (1 - α) g`.
        pub centered: bool,
    }

    /// The images that a convolution gives for a sample: `[c_out, h_out, w_out]`, and whether in channels_last order.
    struct Images {
        size: Vec<i64>,
        channels_last: bool,
    }

    /// A thread's autocast for one device type. `kind` is a number of libtorch's.
    struct AutocastState {
        cuda: bool,
        enabled: bool,
        kind: i8,
    }

    /// An operator as libtorch's dispatcher knows it.
    struct RegisteredOperator {
        name: String,
        schema: String,
        dispatch_keys: Vec<String>,
    }

    // SAFETY: the signatures are checked against cpp/bridge.h by the C++ compiler; none keeps a reference.
    unsafe extern "C++" {
        include!("tch-svgd/cpp/bridge.h");

        #[namespace = "at"]
        type Tensor;

        fn svgd_linear(
            input: &Tensor,
            weight: &Tensor,
            bias: &Tensor,
            second_moment: &Tensor,
            hyperparameters: &Hyperparameters,
        ) -> Result<UniquePtr<Tensor>>;
        fn svgd_conv2d(
            input: &Tensor,
            weight: &Tensor,
            bias: &Tensor,
            second_moment: &Tensor,
            convolution: &Convolution,
            hyperparameters: &Hyperparameters,
        ) -> Result<UniquePtr<Tensor>>;
        fn svgd_virtual_grad(
            grad_output: &Tensor,
            second_moment: &Tensor,
            hyperparameters: &Hyperparameters,
        ) -> Result<UniquePtr<Tensor>>;
        fn svgd_virtual_grad_composed(
            grad_output: &Tensor,
            second_moment: &Tensor,
            hyperparameters: &Hyperparameters,
        ) -> Result<UniquePtr<Tensor>>;
        fn svgd_update_second_moment(
            grad_output: &Tensor,
            second_moment: &Tensor,
            hyperparameters: &Hyperparameters,
        ) -> Result<()>;

        #[allow(clippy::too_many_arguments)]
        fn tso_alra_linear(
            input: &Tensor,
            weight: &Tensor,
            bias: &Tensor,
            input_factor: &Tensor,
            output_factor: &Tensor,
            input_root: &Tensor,
            output_root: &Tensor,
            preconditioning: &Preconditioning,
        ) -> Result<UniquePtr<Tensor>>;
        #[allow(clippy::too_many_arguments)]
        fn tso_alra_conv2d(
            input: &Tensor,
            weight: &Tensor,
            bias: &Tensor,
            input_factor: &Tensor,
            output_factor: &Tensor,
            input_root: &Tensor,
            output_root: &Tensor,
            convolution: &Convolution,
            preconditioning: &Preconditioning,
        ) -> Result<UniquePtr<Tensor>>;
        fn tso_alra_inverse_roots(
            factors: &CxxVector<Tensor>,
            roots: &CxxVector<Tensor>,
            eps: f64,
            relative: bool,
        ) -> Result<()>;

        fn bng_normalize(
            gradients: &CxxVector<Tensor>,
            parameters: &CxxVector<Tensor>,
            blocks: &[i64],
            norms: &Tensor,
            skipped: &Tensor,
            rule: &str,
            value: f64,
        ) -> Result<()>;

        fn sgd_step(
            settings: &Sgd,
            lr: f64,
            rate: &Tensor,
            parameters: &CxxVector<Tensor>,
            gradients: &CxxVector<Tensor>,
            momentum_buffers: &CxxVector<Tensor>,
            first: bool,
        ) -> Result<()>;
        #[allow(clippy::too_many_arguments)]
        fn adam_step(
            settings: &Adam,
            lr: f64,
            rate: &Tensor,
            parameters: &CxxVector<Tensor>,
            gradients: &CxxVector<Tensor>,
            steps: &CxxVector<Tensor>,
            exp_avgs: &CxxVector<Tensor>,
            exp_avg_sqs: &CxxVector<Tensor>,
            max_exp_avg_sqs: &CxxVector<Tensor>,
        ) -> Result<()>;
        fn adagrad_step(
            settings: &AdaGrad,
            lr: f64,
            rate: &Tensor,
            parameters: &CxxVector<Tensor>,
            gradients: &CxxVector<Tensor>,
            steps: &CxxVector<Tensor>,
            sums: &CxxVector<Tensor>,
        ) -> Result<()>;
        #[allow(clippy::too_many_arguments)]
        fn rmsprop_step(
            settings: &RmsProp,
            lr: f64,
            rate: &Tensor,
            parameters: &CxxVector<Tensor>,
            gradients: &CxxVector<Tensor>,
            square_avgs: &CxxVector<Tensor>,
            grad_avgs: &CxxVector<Tensor>,
            momentum_buffers: &CxxVector<Tensor>,
        ) -> Result<()>;
        fn forget_gradients(parameters: &CxxVector<Tensor>) -> Result<()>;
        fn unscale(gradients: &CxxVector<Tensor>, found_inf: &Tensor, inverse_scale: &Tensor) -> Result<()>;

        fn tensor_list() -> Result<UniquePtr<CxxVector<Tensor>>>;
        fn append(list: Pin<&mut CxxVector<Tensor>>, tensor: &Tensor) -> Result<()>;

        fn conv2d_output(op: &str, input: &Tensor, weight: &Tensor, convolution: &Convolution) -> Result<Images>;

        fn enter_autocast(cuda: bool, half: bool) -> Result<AutocastState>;
        fn leave_autocast(before: &AutocastState) -> Result<()>;

        #[namespace = "hatted::cuda"]
        #[cxx_name = "Graph"]
        type CudaGraph;
        fn begin_cuda_graph(device: i64) -> Result<UniquePtr<CudaGraph>>;
        fn finish_capture(self: Pin<&mut CudaGraph>) -> Result<()>;
        fn abandon_capture(self: Pin<&mut CudaGraph>) -> Result<bool>;
        fn replay(self: &CudaGraph) -> Result<()>;

        fn is_grad_enabled() -> Result<bool>;
        fn backward(loss: &Tensor) -> Result<()>;
        fn identity(tensor: &Tensor) -> Result<usize>;
        fn to_meta(tensor: &Tensor) -> Result<UniquePtr<Tensor>>;
        fn start_memory_count(limit: i64) -> Result<()>;
        fn stop_memory_count() -> Result<i64>;
        fn enter_dual_level() -> Result<u64>;
        fn exit_dual_level(level: u64) -> Result<()>;

        fn operators(name_space: &str) -> Result<Vec<RegisteredOperator>>;
        fn libtorch_version() -> Result<String>;
        fn compiler() -> Result<String>;
    }
}
