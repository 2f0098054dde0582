// The cache of the weights that autocast has cast.
#pragma once

namespace at::autocast {

void clear_cache();

}  // namespace at::autocast
